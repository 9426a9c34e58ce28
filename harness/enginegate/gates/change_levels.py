"""Levels of the change point tests, as ``scripts/history/calibrate.py`` simulated them; do not edit."""

#: New false alarms a night of all series together: of new levels, and of drifts.
FALSE_ALARMS = 0.08
FALSE_DRIFTS = 0.01
#: Level of the test of a change in the past, and of its proposals.
STRONG_P = 0.0001
WEAK_P = 0.001
#: By score of a new level: new alarms per series and night.
NEWEST = (
    (1e-06, 1.167e-06),
    (1.778e-06, 2e-06),
    (3.162e-06, 2.75e-06),
    (5.623e-06, 5.333e-06),
    (1e-05, 9.25e-06),
    (1.778e-05, 1.383e-05),
    (3.162e-05, 2.558e-05),
    (5.623e-05, 4.583e-05),
    (0.0001, 7.883e-05),
    (0.0001778, 0.0001366),
    (0.0003162, 0.0002414),
    (0.0005623, 0.0004175),
    (0.001, 0.0007127),
    (0.001778, 0.001228),
    (0.003162, 0.002081),
    (0.005623, 0.003495),
    (0.01, 0.00579),
)
#: The same by one-sided p of a drift.
DRIFT = (
    (3.162e-06, 9.167e-07),
    (5.623e-06, 1.75e-06),
    (1e-05, 3.083e-06),
    (1.778e-05, 5.833e-06),
    (3.162e-05, 8.917e-06),
    (5.623e-05, 1.408e-05),
    (0.0001, 2.458e-05),
    (0.0001778, 4.333e-05),
    (0.0003162, 7.092e-05),
    (0.0005623, 0.0001199),
    (0.001, 0.0001943),
    (0.001778, 0.0003236),
    (0.003162, 0.0005258),
    (0.005623, 0.0008521),
    (0.01, 0.001366),
)
