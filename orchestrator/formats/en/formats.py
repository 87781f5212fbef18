"""Dates and times for people of any country: no month that could be a day, no a.m. or p.m."""

DATE_FORMAT = "j M Y"
TIME_FORMAT = "H:i:s"
DATETIME_FORMAT = "j M Y, H:i:s"
