"""What every provider must do, for every row of its catalogue: one suite, which is the specification.

Law: no vendor's name in here but under `players/`, where one small file enters a provider. Expectations are shared; a
vendor's deviation is a row of its own player, with the reason beside it. A gap is a named, dated `xfail`.
"""
