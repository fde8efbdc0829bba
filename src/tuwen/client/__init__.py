"""THE SERVICE FROM AFAR: the same verbs and the same Hit, over HTTP."""
