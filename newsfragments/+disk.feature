A store whose disk failed to synchronize, or is nearly full (``minimumFreeBytes``, ``minimumFreeInodes``), refuses objects before their data come, and takes them again by itself.
