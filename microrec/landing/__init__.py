"""The landing zone: which files arrived, whether they are whole, how Spark reads them, how to write them.

Files are the producers' and are not trusted. A file that cannot be read to its end, or is not what its name says, stops
the night with a `LandingError` that names table, day and file; a line that breaks a rule is the business of the stage
events. What reads and writes public formats lies in `importers`, one file each.

    zone      paths and names: which files arrived on a day
    verify    whether a file is whole and within the limits of the recipe
    readers   a day's lines as a Spark frame, every value text
    write     rows or lines as files, for planted worlds and importers
"""
