"""asyncio: tasks, queues, timeouts, threads, pipes and pairs, signals, cancellation."""

import asyncio
import contextlib
import os
import signal
import socket


async def worker(name, jobs, done):
    while True:
        job = await jobs.get()
        await asyncio.sleep(0)
        done.append((name, job * job))
        jobs.task_done()


async def queues():
    jobs, done = asyncio.Queue(2), []
    workers = [asyncio.create_task(worker(name, jobs, done)) for name in "ab"]
    for job in range(6):
        await jobs.put(job)
    await jobs.join()
    for task in workers:
        task.cancel()
    results = await asyncio.gather(*workers, return_exceptions=True)
    print(sorted(square for _, square in done), [type(result).__name__ for result in results])


async def timeouts():
    try:
        async with asyncio.timeout(0.01):
            await asyncio.sleep(60)
    except TimeoutError:
        print("timed out")
    try:
        await asyncio.wait_for(asyncio.Event().wait(), 0.01)
    except TimeoutError:
        print("timed out again")
    started = asyncio.get_running_loop().time()
    await asyncio.sleep(0.02)
    print(asyncio.get_running_loop().time() - started >= 0.02)


async def groups():
    async def fail():
        raise ValueError("no")

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(60))
            group.create_task(fail())
    except* ValueError as errors:
        print(errors.exceptions)


async def threads():
    print(await asyncio.gather(*(asyncio.to_thread(pow, 3, n) for n in range(4))))
    loop, event = asyncio.get_running_loop(), asyncio.Event()
    await loop.run_in_executor(None, loop.call_soon_threadsafe, event.set)
    await asyncio.wait_for(event.wait(), 10)
    print("woken by a thread")


async def pipes():
    loop = asyncio.get_running_loop()
    reading, writing = os.pipe()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(reading, "rb", 0))
    os.write(writing, b"line one\nline")
    print(await reader.readline())
    loop.call_later(0.01, os.write, writing, b" two\n")
    print(await reader.readline())
    os.close(writing)
    print(await reader.read())


async def pairs():
    loop = asyncio.get_running_loop()
    here, there = socket.socketpair()
    for end in (here, there):
        end.setblocking(False)
    loop.call_later(0.01, there.send, b"hello")
    print(await loop.sock_recv(here, 100))
    with contextlib.closing(here), contextlib.closing(there):
        reader, writer = await asyncio.open_unix_connection(sock=here.dup())
        writer.write(b"x" * 100_000)
        received = 0
        while received < 100_000:
            received += len(await loop.sock_recv(there, 65536))
        there.send(b"bye\n")
        print(received, await reader.readline())
        writer.close()


async def signals():
    loop, event = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGUSR1, event.set)
    loop.call_later(0.01, os.kill, os.getpid(), signal.SIGUSR1)
    await asyncio.wait_for(event.wait(), 10)
    loop.remove_signal_handler(signal.SIGUSR1)
    print("signal")


async def main():
    for part in (queues, timeouts, groups, threads, pipes, pairs, signals):
        print(part.__name__)
        await part()


asyncio.run(main())
