"""Makes `nest_tools`, the library of the example scripts, importable: `import scripts_path` before it is imported."""

import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
CONFIGS = REPOSITORY / "examples/asr/conf/ssl/nest"
SCRIPTS = REPOSITORY / "examples/asr/speech_pretraining"

if str(SCRIPTS) not in sys.path:
    sys.path.append(str(SCRIPTS))
