Objects in memory: ``EnableInMemoryStorageSCP``, ``TakeStoredObject`` of a listener and of an association, and a budget beyond which they spill, wait or are refused.
