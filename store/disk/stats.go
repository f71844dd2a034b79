package disk

// Stats is a snapshot of an engine's figures, which count from its opening.
type Stats struct {
	DatabaseBytes int64 `json:"databaseBytes"` // of the database file that are in use or free
	FreeBytes     int64 `json:"freeBytes"`     // of these, what Compact would give back
	LogBytes      int64 `json:"logBytes"`      // of the log that are in use

	Commits uint64 `json:"commits"`
	Ops     uint64 `json:"ops"`    // of these commits
	Syncs   uint64 `json:"syncs"`  // of the log, by commits
	Stalls  uint64 `json:"stalls"` // commits that waited, since the log was too long

	Checkpoints uint64 `json:"checkpoints"`
	Backups     uint64 `json:"backups"`     // that succeeded
	Compactions uint64 `json:"compactions"` // that succeeded

	// Err is why nothing more is committed. It is empty if all is well.
	Err string `json:"err,omitempty"`
}

// Stats returns the figures of now.
func (e *Engine) Stats() Stats {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := e.stats
	s.LogBytes = e.log.end
	s.Syncs = e.log.syncs
	if e.err != nil {
		s.Err = e.err.Error()
	}
	return s
}
