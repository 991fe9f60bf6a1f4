"""Pictures: what people with photographs use. Nothing here trains, and nothing imports the training side."""
