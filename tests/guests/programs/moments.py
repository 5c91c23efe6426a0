"""time, datetime, zoneinfo, calendar, timeit: results that are the same in any world."""

import calendar
import datetime
import email.utils
import os
import sched
import time
import timeit
import zoneinfo

for clock in (time.time, time.monotonic, time.perf_counter, time.process_time, time.thread_time):
    first = clock()
    while clock() == first:
        pass
    print(clock.__name__, clock() > first)
print(time.monotonic_ns() > 0, abs(time.time() - datetime.datetime.now().timestamp()) < 60, time.time() > 1_600_000_000)
started, cpu = time.monotonic(), time.process_time()
time.sleep(0.05)
print("slept", 0.05 <= time.monotonic() - started < 30, time.process_time() - cpu < 0.05)
try:
    time.sleep(-1)
except ValueError:
    print("no negative sleep")
for name in ("CLOCK_REALTIME", "CLOCK_MONOTONIC", "CLOCK_BOOTTIME", "CLOCK_PROCESS_CPUTIME_ID", "CLOCK_THREAD_CPUTIME_ID"):
    clock = getattr(time, name)
    print(name, time.clock_gettime(clock) > 0, 0 < time.clock_getres(clock) <= 0.01)
try:
    time.clock_settime(time.CLOCK_REALTIME, 0)
except PermissionError:
    print("nobody sets the clock")
try:
    time.clock_gettime(12345)
except OSError:
    print("no such clock")

print(time.gmtime(0)[:6], time.strftime("%Y-%m-%d %H:%M:%S %a %b", time.gmtime(1_700_000_000)), calendar.timegm((2024, 2, 29, 12, 0, 0)))
os.environ["TZ"] = "America/New_York"
time.tzset()
print(time.tzname, time.timezone, time.localtime(1_720_000_000).tm_hour, time.localtime(1_700_000_000).tm_isdst)
os.environ["TZ"] = "UTC"
time.tzset()
moment = datetime.datetime(2024, 3, 31, 1, 30, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin"))
print(moment.isoformat(), (moment + datetime.timedelta(hours=2)).utcoffset(), moment.astimezone(zoneinfo.ZoneInfo("Asia/Tokyo")))
print(len(zoneinfo.available_timezones()) > 300, datetime.date(2024, 2, 29).isocalendar()[:3])
print(datetime.datetime.fromtimestamp(0, datetime.timezone.utc), datetime.datetime.strptime("5 Jan 1999", "%d %b %Y").timestamp())
print(email.utils.formatdate(1_700_000_000), calendar.month(2024, 2).splitlines()[2].split())
scheduler, done, now = sched.scheduler(), [], time.monotonic()
for delay in (0.02, 0.01, 0):
    scheduler.enterabs(now + delay, 1, done.append, (delay,))
scheduler.run()
print(done, timeit.timeit("pass", number=100) >= 0, os.times().elapsed > 0)
before = time.time_ns()
open("stamp", "w").close()
print(before - 10**9 <= os.stat("stamp").st_mtime_ns <= time.time_ns() + 10**9)
os.unlink("stamp")
