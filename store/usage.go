package store

import "sync"

// A usage counts what all stores hold together, and those of each owner. It has a lock
// of its own, which is taken under those of stores.
type usage struct {
	db *DB

	mu     sync.Mutex // guards below
	bytes  int64
	stores int
	owners map[string]*share
}

// A share is what the stores of one owner hold.
type share struct {
	stores int
	bytes  int64
}

func (u *usage) of(owner string) *share {
	s := u.owners[owner]
	if s == nil {
		if u.owners == nil {
			u.owners = map[string]*share{}
		}
		s = &share{}
		u.owners[owner] = s
	}
	return s
}

// grow takes bytes from the quotas for a store, or returns a [*QuotaError].
func (u *usage) grow(s *space, bytes int64) error {
	if bytes <= 0 {
		u.add(s.owner, bytes)
		return nil
	}
	_, limit := u.db.opts.OwnerQuota(s.owner)
	u.mu.Lock()
	defer u.mu.Unlock()
	own := u.of(s.owner)
	switch {
	case own.bytes+bytes > limit:
		return &QuotaError{Store: s.name, Quota: "bytes of all stores of its owner", Limit: limit, Would: own.bytes + bytes}
	case u.bytes+bytes > u.db.opts.MaxBytes:
		return &QuotaError{Store: s.name, Quota: "bytes of all stores", Limit: u.db.opts.MaxBytes, Would: u.bytes + bytes}
	}
	own.bytes += bytes
	u.bytes += bytes
	return nil
}

// add counts bytes that are there or are gone, whatever the quotas say.
func (u *usage) add(owner string, bytes int64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.of(owner).bytes += bytes
	u.bytes += bytes
}

// open takes a store from the quotas, or returns a [*QuotaError].
func (u *usage) open(owner, name string) error {
	limit, _ := u.db.opts.OwnerQuota(owner)
	u.mu.Lock()
	defer u.mu.Unlock()
	own := u.of(owner)
	switch {
	case own.stores+1 > limit:
		return &QuotaError{Store: name, Quota: "stores of its owner", Limit: int64(limit), Would: int64(own.stores + 1)}
	case u.stores+1 > u.db.opts.MaxStores:
		return &QuotaError{Store: name, Quota: "stores of all plugins", Limit: int64(u.db.opts.MaxStores), Would: int64(u.stores + 1)}
	}
	own.stores++
	u.stores++
	return nil
}

// opened counts a store that is there.
func (u *usage) opened(owner string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.of(owner).stores++
	u.stores++
}

// drop gives back a store that held so many bytes.
func (u *usage) drop(owner string, bytes int64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	own := u.of(owner)
	own.stores--
	own.bytes -= bytes
	u.stores--
	u.bytes -= bytes
	if *own == (share{}) {
		delete(u.owners, owner)
	}
}
