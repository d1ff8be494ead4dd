"""Makes `times.txt`: random cron expressions and their next times, by an implementation that shares no code with ours.

`pip install -r requirements.txt && python make.py > times.txt`. A line is one case: the zone's letter, the start in
seconds since the Unix epoch, the expression, and the seconds from each time to the next, the start being the first; at
most five times, and none after `END`. Left out is where cronsim is known not to follow Debian's cron: see `is_known`.
"""

import bisect
import random
import signal
from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

CASES = 12_000
TIMES = 5
# Rules of zones change for the time to come, never for the past.
BEGIN = datetime(1996, 1, 1, tzinfo=timezone.utc)
END = datetime(2025, 1, 1, tzinfo=timezone.utc)

ZONES = {
    "U": "UTC",
    "N": "America/New_York",
    "B": "Europe/Berlin",
    "H": "Australia/Lord_Howe",
    "A": "Pacific/Apia",
    "K": "Asia/Kathmandu",
    "J": "America/St_Johns",
    "S": "America/Sao_Paulo",
}
MONTHS = "JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC".split()
DAYS = "SUN MON TUE WED THU FRI SAT".split()
NICKNAMES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}

chance = random.Random(20_250_101)


def one_of(*choices):
    weights, makers = zip(*choices)
    return chance.choices(makers, weights)[0]()


def field(first, last, names=None):
    """A field of any form that the documentation names."""

    def value(number):
        if names and chance.random() < 0.4:
            name = names[number % 7 if names is DAYS else number - first]
            return chance.choice([name, name.lower(), name.capitalize()])
        return str(number)

    def span():
        # A range of one value and a step is to cronsim one to the end.
        low, high = sorted(chance.sample(range(first, last + 1), k=2))
        return f"{value(low)}-{value(high)}" if not (names is DAYS and high == 7) else f"{low}-{high}"

    def item():
        return one_of(
            (5, lambda: value(chance.randint(first, last))),
            (3, span),
            (2, lambda: f"{span()}/{chance.randint(1, 9)}"),
        )

    return one_of(
        (6, item),
        (3, lambda: f"*/{chance.randint(1, max(2, last // 2))}"),
        (3, lambda: ",".join(item() for _ in range(chance.randint(2, 4)))),
    )


def often(make, star=3, other=2):
    return one_of((star, lambda: "*"), (other, make))


def expression():
    def day():
        return one_of((6, lambda: field(1, 31)), (1, lambda: "L"), (1, lambda: "LW"))

    def weekday():
        return one_of(
            (6, lambda: field(0, 7, DAYS)),
            (1, lambda: f"{chance.randint(0, 6)}L"),
            (1, lambda: f"{chance.choice([*map(str, range(7)), *DAYS])}#{chance.randint(1, 5)}"),
        )

    def plain():
        fields = [
            often(lambda: field(0, 59), 1, 6),
            often(lambda: field(0, 23), 2, 5),
            often(day),
            often(lambda: field(1, 12, MONTHS)),
            often(weekday),
        ]
        return " ".join(fields)

    return one_of(
        (1, lambda: chance.choice(list(NICKNAMES))),
        (24, plain),
        (5, lambda: f"{often(lambda: field(0, 59), 1, 4)} {plain()}"),
    )


def changes(zone):
    """Every moment at which the clock of a zone changes."""
    found, at = [], BEGIN
    while at < END:
        after = at + timedelta(days=1)
        if at.astimezone(zone).utcoffset() != after.astimezone(zone).utcoffset():
            low, high = at, after
            while high - low > timedelta(seconds=1):
                middle = low + (high - low) // 2
                same = middle.astimezone(zone).utcoffset() == low.astimezone(zone).utcoffset()
                low, high = (middle, high) if same else (low, middle)
            found.append(high.replace(microsecond=0))
        at = after
    return found


def start(zone, near):
    if near and chance.random() < 0.6:
        return chance.choice(near) + timedelta(seconds=chance.randint(-36 * 3_600, 12 * 3_600))
    return BEGIN + timedelta(seconds=chance.randint(0, int((END - BEGIN).total_seconds()) * 9 // 10))


def times(text, at, zone):
    found = []
    try:
        for time in CronSim(NICKNAMES.get(text, text), at.astimezone(zone)):
            if time.astimezone(timezone.utc) >= END or len(found) == TIMES:
                break
            found.append(int(time.timestamp()))
    except StopIteration:
        pass
    return found


def is_known(letter, text, first, last, near):
    """Whether cronsim is off between two moments.

    It steps by hours from a full one, and sets a time to the beginning of a day or of an hour without a look at whether
    that is there: wrong where a clock changes by half an hour or about midnight. With seconds it knows no time of the day.
    """
    crossed = bisect.bisect(near, last) - bisect.bisect(near, first)
    by_real_time = any(field.startswith("*") for field in text.split()[:2])
    return crossed > 0 and (len(text.split()) == 6 or (by_real_time and letter in "HASJ"))


def begins_twice(at, zone):
    """Whether a start lies in an hour that comes for the second time, which cronsim cannot tell from the first."""
    return at.astimezone(zone).fold == 1


class Endless(Exception):
    """Cronsim comes to no end, as before a clock that goes back over midnight."""


def give_up(*_):
    raise Endless


def case(letter, zone, near):
    text, at = expression(), start(zone, near)
    spelt = NICKNAMES.get(text, text)
    try:
        signal.alarm(5)
        found = times(text, at, zone)
    except (Endless, CronSimError):
        return None
    finally:
        signal.alarm(0)
    begin = int(at.timestamp())
    last = found[-1] if len(found) == TIMES else int(END.timestamp())
    moments = [int(change.timestamp()) for change in near]
    if begins_twice(at, zone) or is_known(letter, spelt, begin, last, moments):
        return None
    deltas = [after - before for before, after in zip([begin, *found], found)]
    if 0 in deltas:
        return None  # It goes round in one moment, where it would otherwise be endless.
    return "|".join(map(str, [letter, begin, text, *deltas]))


def main():
    signal.signal(signal.SIGALRM, give_up)
    zones = {letter: ZoneInfo(name) for letter, name in ZONES.items()}
    near = {letter: changes(zone) for letter, zone in zones.items()}
    made = 0
    while made < CASES:
        letter = chance.choice(list(zones))
        line = case(letter, zones[letter], near[letter])
        if line:
            print(line)
            made += 1


main()
