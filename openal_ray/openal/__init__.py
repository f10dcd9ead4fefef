"""For users of OpenAL: its configuration keys and its create_query_strategy, on this engine."""
