-- Who asks whether a node is synced: HAProxy and the container's health check. It may see nothing else.
CREATE USER health@'%';
