"""The Kubernetes side of the world: a small REST client, the object cache, Secrets, Events and the Lease."""
