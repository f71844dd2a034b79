package store

import "sync"

// A usage counts what all stores hold together, and those of each owner. It has a lock
// of its own, which is taken under those of stores.
type usage struct {
	db *DB

	mu     sync.Mutex // guards below
	bytes  int64
	kept   int64 // of which histories may be
	stores int
	owners map[string]*share
}

// A share is what the stores of one owner hold.
type share struct {
	stores int
	bytes  int64
	kept   int64
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
	if err := u.fits(own, s.name, bytes, limit); err != nil {
		return err
	}
	own.bytes += bytes
	u.bytes += bytes
	return nil
}

// fits returns an error if there is no room for more bytes. u.mu is held.
func (u *usage) fits(own *share, name string, bytes, limit int64) error {
	switch {
	case own.bytes+own.kept+bytes > limit:
		return &QuotaError{Store: name, Quota: "bytes of all stores of its owner", Limit: limit}
	case u.bytes+u.kept+bytes > u.db.opts.MaxBytes:
		return &QuotaError{Store: name, Quota: "bytes of all stores", Limit: u.db.opts.MaxBytes}
	}
	return nil
}

// keep takes from the quotas, or gives back, what the history of a store may hold beyond
// that of any store. u.mu is held.
func (u *usage) keep(own *share, bytes int64) {
	own.kept += bytes
	u.kept += bytes
}

// add counts bytes that are there or are gone, whatever the quotas say.
func (u *usage) add(owner string, bytes int64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.of(owner).bytes += bytes
	u.bytes += bytes
}

// open takes a store from the quotas, or returns a [*QuotaError].
func (u *usage) open(s *space) error {
	name, owner, keeps := s.name, s.owner, s.config.keeps()
	limit, most := u.db.opts.OwnerQuota(owner)
	u.mu.Lock()
	defer u.mu.Unlock()
	own := u.of(owner)
	switch {
	case own.stores+1 > limit:
		return &QuotaError{Store: name, Quota: "stores of its owner", Limit: int64(limit), Would: int64(own.stores + 1)}
	case u.stores+1 > u.db.opts.MaxStores:
		return &QuotaError{Store: name, Quota: "stores of all plugins", Limit: int64(u.db.opts.MaxStores)}
	}
	if keeps > 0 {
		if err := u.fits(own, name, keeps, most); err != nil {
			return err
		}
	}
	own.stores++
	u.stores++
	u.keep(own, keeps)
	return nil
}

// opened counts a store that is there.
func (u *usage) opened(s *space) {
	u.mu.Lock()
	defer u.mu.Unlock()
	own := u.of(s.owner)
	own.stores++
	u.stores++
	u.keep(own, s.config.keeps())
}

// drop gives back a store that held so many bytes.
func (u *usage) drop(s *space, bytes int64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	owner := s.owner
	own := u.of(owner)
	u.keep(own, -s.config.keeps())
	own.stores--
	own.bytes -= bytes
	u.stores--
	u.bytes -= bytes
	if *own == (share{}) {
		delete(u.owners, owner)
	}
}
