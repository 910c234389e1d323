"""The lab's tasks, one module a family. A module's `TASKS` is all there is to register."""
