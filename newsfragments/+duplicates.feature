The setting ``duplicates`` says what becomes of another object under the same UID: ``keep-both`` (the default), ``replace``, ``keep-first`` or ``refuse``.
