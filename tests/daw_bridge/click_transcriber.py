"""What stands in for the transcriber where a test is about what follows it."""

import numpy as np

from transform.events import DrumEvent


class ClickTranscriber:
    """Hears a kick in every click."""

    def activations(self, recording, progress=None):
        return recording

    def events(self, recording):
        sound = np.abs(recording.read(0, recording.n_samples)).max(axis=0)
        loud = np.flatnonzero(sound > 0.3)
        first = loud[np.diff(loud, prepend=-(10**9)) > 0.03 * recording.sample_rate]
        return [DrumEvent(at / recording.sample_rate, "KD", 0.8) for at in first.tolist()]

    def remember(self, n):
        pass
