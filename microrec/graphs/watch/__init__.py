"""The user-video graph: daily aggregates, numbering of nodes, splits, edges of videos and of clips."""
