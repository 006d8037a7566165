"""A tracker that remembers."""


class Recorder:
    """Keeps the records; calls `then` after each."""

    def __init__(self, then=None):
        self.records, self.statuses, self.starts, self.then = [], [], [], then

    def start(self, step, steps):
        self.starts.append((step, steps))

    def log(self, record):
        self.records.append(record)
        if self.then is not None:
            self.then(record)

    def close(self, status):
        self.statuses.append(status)
