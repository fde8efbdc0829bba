"""RAW -> ARRAYS: pictures to pixels, texts to tokens. Never touches a model, a runtime or an index."""
