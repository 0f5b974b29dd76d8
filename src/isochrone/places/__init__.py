"""Everything that can answer a request, behind one protocol: `place` says what that is, `local` is this machine."""
