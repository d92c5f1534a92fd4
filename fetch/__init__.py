"""From a URI to encoded bytes: files, object stores and http(s), with limits, retries and guards."""
