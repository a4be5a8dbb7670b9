"""Property tests have no deadline: what an example takes is the machine's business."""

from __future__ import annotations

import hypothesis

hypothesis.settings.register_profile("sharedfate", deadline=None)
hypothesis.settings.load_profile("sharedfate")
