Asynchronous operations: where a sender proposes it, several objects of one association are stored at once (``Configuration.operationsWindow``).
