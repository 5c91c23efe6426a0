"""The outer planets around the sun, by a symplectic step: floating point and small lists. usage: nbody.py UNITS"""

import json
import math
import sys
import time

SOLAR_MASS = 4 * math.pi**2
DAYS = 365.24
#: Position in AU, velocity in AU per day, mass in suns.
BODIES = [
    ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0), 1.0),
    ((4.841, -1.160, -0.1036), (0.00166, 0.00770, -0.0000690), 0.000955),
    ((8.343, 4.125, -0.4035), (-0.00277, 0.00500, 0.0000230), 0.000286),
    ((12.894, -15.111, -0.2233), (0.00296, 0.00238, -0.0000297), 0.0000437),
    ((15.380, -25.919, 0.1793), (0.00268, 0.00163, -0.0000952), 0.0000515),
]


class Body:
    def __init__(self, place, speed, mass):
        self.x, self.y, self.z = place
        self.vx, self.vy, self.vz = (part * DAYS for part in speed)
        self.mass = mass * SOLAR_MASS


def pairs(bodies):
    return [(one, other) for index, one in enumerate(bodies) for other in bodies[index + 1 :]]


def advance(bodies, together, step, count):
    for _ in range(count):
        for one, other in together:
            dx, dy, dz = one.x - other.x, one.y - other.y, one.z - other.z
            square = dx * dx + dy * dy + dz * dz
            pull = step / (square * math.sqrt(square))
            mine, theirs = one.mass * pull, other.mass * pull
            one.vx -= dx * theirs
            one.vy -= dy * theirs
            one.vz -= dz * theirs
            other.vx += dx * mine
            other.vy += dy * mine
            other.vz += dz * mine
        for body in bodies:
            body.x += step * body.vx
            body.y += step * body.vy
            body.z += step * body.vz


def energy(bodies, together):
    moving = sum(body.mass * (body.vx**2 + body.vy**2 + body.vz**2) / 2 for body in bodies)
    bound = sum(a.mass * b.mass / math.dist((a.x, a.y, a.z), (b.x, b.y, b.z)) for a, b in together)
    return moving - bound


bodies = [Body(*each) for each in BODIES]
together = pairs(bodies)
began, cpu = time.perf_counter(), time.process_time()
for _ in range(int(sys.argv[1])):
    advance(bodies, together, 0.01, 100_000)
seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
print(json.dumps({"seconds": seconds, "cpu": cpu, "check": energy(bodies, together)}))
