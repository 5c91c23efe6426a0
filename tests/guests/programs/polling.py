"""Pipes, pairs, select, poll, epoll, selectors."""

import errno
import fcntl
import os
import select
import selectors
import socket
import struct
import termios
import threading

reading, writing = os.pipe()
print("fresh", select.select([reading], [writing], [], 0) == ([], [writing], []))
os.write(writing, b"abc")
print("filled", select.select([reading], [], [], None) == ([reading], [], []), os.read(reading, 2), os.read(reading, 9))
print("waiting", struct.unpack("i", fcntl.ioctl(reading, termios.FIONREAD, b"\0" * 4)), os.isatty(reading))

os.set_blocking(reading, False)
try:
    os.read(reading, 1)
except BlockingIOError as error:
    print("empty", errno.errorcode[error.errno])
os.set_blocking(writing, False)
total = 0
try:
    while True:
        total += os.write(writing, b"x" * 4096)
except BlockingIOError:
    print("full", total, select.select([], [writing], [], 0)[1])
print(len(os.read(reading, 1 << 20)), select.select([], [writing], [], 0)[1] == [writing])

poll = select.poll()
poll.register(reading, select.POLLIN)
poll.register(writing, select.POLLOUT)
print("poll", [(fd == writing, event) for fd, event in poll.poll(0)])
os.write(writing, b"!")
print("poll", sorted((fd == writing, event) for fd, event in poll.poll()))
poll.unregister(writing)
os.close(writing)
os.read(reading, 1)
print("hung up", [event for _, event in poll.poll()], os.read(reading, 1))
os.close(reading)
print("invalid", [event for _, event in poll.poll(0)] == [select.POLLNVAL])
reading, writing = os.pipe()
os.close(reading)
try:
    os.write(writing, b"x")
except BrokenPipeError as error:
    print("broken", errno.errorcode[error.errno])
os.close(writing)

# A thread wakes another
reading, writing = os.pipe()
thread = threading.Thread(target=lambda: os.write(writing, b"from a thread"))
timer = threading.Timer(0.02, thread.start)
timer.start()
print("woken", select.select([reading], [], [], 10)[0] == [reading], os.read(reading, 99))
timer.join()
thread.join()
received = []
thread = threading.Thread(target=lambda: received.append(os.read(reading, 99)))
thread.start()
os.write(writing, b"to a thread")
thread.join()
print(received)

with select.epoll() as epoll:
    epoll.register(reading, select.EPOLLIN)
    print("epoll", epoll.poll(0.01), epoll.closed)
    os.write(writing, b"1")
    print("level", [event for _, event in epoll.poll()], [event for _, event in epoll.poll(0)])
    epoll.modify(reading, select.EPOLLIN | select.EPOLLET)
    print("edge", len(epoll.poll(1)), len(epoll.poll(0)))
    os.write(writing, b"2")
    print("again", len(epoll.poll(1)))
    epoll.modify(reading, select.EPOLLIN | select.EPOLLONESHOT)
    print("once", len(epoll.poll(1)), len(epoll.poll(0)))
    try:
        epoll.register(reading, select.EPOLLIN)
    except FileExistsError:
        print("twice")
    epoll.unregister(reading)
    with open(__file__) as file:
        try:
            epoll.register(file.fileno(), select.EPOLLIN)
        except PermissionError:
            print("no regular files")

here, there = socket.socketpair()
with here, there, selectors.DefaultSelector() as selector:
    selector.register(here, selectors.EVENT_READ, "here")
    print("pair", selector.select(0))
    there.sendall(b"over")
    print([(key.data, events) for key, events in selector.select(5)], here.recv(2), here.recv(9))
    there.shutdown(socket.SHUT_WR)
    print(here.recv(9), here.send(b"back"), there.recv(9))
    here.settimeout(0.01)
    print(here.gettimeout(), here.family.name, here.type.name)
here, there = socket.socketpair()
there.settimeout(0.01)
try:
    there.recv(1)
except socket.timeout:  # TimeoutError since Python 3.10
    print("timed out")
here.close()
there.close()
