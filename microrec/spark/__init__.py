"""The Spark session: its options, the class archive that shortens its start, the daemon of its workers.

    session         the options we set and why, and the process's one session
    archive_path    where the class archive lies, a file per version of Java and Spark
    class_archive   makes the archive (`microrec warm`), in a process of its own
    daemon          the parent of Python workers, without archives on the import path

It stands below the tables, so both the warehouse and the landing readers start the same session.
"""
