"""The landing zone: which files arrived, whether they are whole, how Spark reads them, how to write them.

Files are the producers' and are not trusted. A file that cannot be read to its end, or is not what its name says, stops
the night with a `LandingError` that names table, day and file; a line that breaks a rule is the business of the stage
events. What reads and writes public formats lies in `importers`, one file each.
"""
