# Here, since what lies below tests/ would not reach the lessons.
pytest_plugins = ["tests.image_outputs"]
