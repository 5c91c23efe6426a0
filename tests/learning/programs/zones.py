"""Uses time zones, dates and a locale."""

import datetime
import locale
import zoneinfo

locale.setlocale(locale.LC_ALL, "")
moment = datetime.datetime(2026, 7, 1, 12, tzinfo=zoneinfo.ZoneInfo("Europe/Vienna"))
print(moment.isoformat(), moment.strftime("%A"), locale.str(1.5))
assert moment.utcoffset() == datetime.timedelta(hours=2)
