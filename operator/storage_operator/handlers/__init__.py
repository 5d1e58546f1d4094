"""When things happen: watches feed a work queue, the queue calls the reconciler, one runner starts and ends it all."""
