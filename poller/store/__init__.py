"""Where the keys live: Redis or Valkey, alone, behind Sentinel, or a cluster."""
