"""The report of a night: one HTML page that says whether there is a release, why, and what the night was like.

    facts     what the page tells, read from the tables of a day, whether or not it was released
    verdict   released, degraded, held, withdrawn or unfinished, and why
    svg       pictures as text
    page      the page itself: one file, no script, nothing from the network, readable on a phone and on paper

The job `report_night` writes it beside the tables after every night, a held one too; `microrec report` writes it
anywhere. The page beside the tables has nothing of any one user, so that no erasure needs to look at it: figures, lists
of videos and the list of everybody. `microrec report --samples` adds lists of users, for a file that an operator looks
at and deletes.
"""
