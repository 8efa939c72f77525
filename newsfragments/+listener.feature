A DICOM Storage SCP and Verification SCP that runs under ``twistd``, inside Twisted and asyncio applications, and in memory for tests.
