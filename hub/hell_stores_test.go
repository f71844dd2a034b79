package hub_test

import (
	"context"
	"io"

	"github.com/plugbus/plugbus/hub"
	"github.com/plugbus/plugbus/store"
	"github.com/plugbus/plugbus/store/storetest"
)

// The places where code runs for stores.

// writeJob writes to a store of the name as the peer.
func writeJob(name string) func(c *cell, ctx context.Context) error {
	return func(c *cell, ctx context.Context) error {
		v, err := c.peer.OpenStore(ctx, name)
		if err != nil {
			return err
		}
		_, err = v.Set(ctx, "job", []byte("good"))
		return err
	}
}

// judgeJob has the devil own a store with a validator.
func judgeJob(check func(c *cell, k hook) error) func(c *cell, s *hub.Session) {
	return func(c *cell, s *hub.Session) {
		var v *store.View
		validate := func(ctx context.Context, p *store.Proposal) error {
			edits := p.Edits()
			return check(c, hook{ctx, edits[0].New.Value(), func() { _ = v.SetValidator(context.Background(), nil) }}) //nolint:contextcheck // It has a context of its own.
		}
		var err error
		v, err = s.EnsureStore(context.Background(), "judged", store.Config{Validator: validate, Read: []string{"peer"}, Write: []string{"peer"}})
		if err == nil {
			err = v.SetValidator(context.Background(), validate)
		}
		if err != nil {
			c.fault("the devil has no store: %v", err)
		}
	}
}

// watchJob has the devil watch the store of all.
func watchJob(see func(c *cell, k hook) error, options ...store.WatchOption) func(c *cell, s *hub.Session) {
	return func(c *cell, s *hub.Session) {
		v, err := s.OpenStore(context.Background(), "words")
		var w *store.Watch
		if err == nil {
			w, err = v.Watch(context.Background(), "job", func(ctx context.Context, change store.Change) error {
				return see(c, hook{ctx, change.Entry().Value(), func() { w.Stop() }})
			}, options...)
		}
		if err != nil {
			c.fault("the devil cannot watch: %v", err)
		}
	}
}

func runHook(c *cell, k hook) error   { return c.run(k) }
func failText(c *cell, _ hook) error  { return evilText{c} }
func panicText(c *cell, _ hook) error { panic(evilText{c}) }
func codecOf(c *cell) store.Codec     { return evilCodec{c: c} }
func aborted(what string) map[need]string {
	return map[need]string{aHandle: what + " ends by returning"}
}

// An evilCodec is code.
type evilCodec struct {
	store.JSON
	c *cell
}

func (e evilCodec) Encode(value any) ([]byte, error) {
	if err := e.c.run(hook{}); err != nil {
		return nil, err
	}
	return e.JSON.Encode(value)
}

func (e evilCodec) Decode(data []byte, into any) error {
	if err := e.c.run(hook{data: data}); err != nil {
		return err
	}
	return e.JSON.Decode(data, into)
}

// inStore has a function of the devil run on the store of all.
func inStore(f func(ctx context.Context, c *cell, v *store.View)) func(c *cell, ctx context.Context) error {
	return func(c *cell, _ context.Context) error {
		return inGo(c, "writer", func(ctx context.Context, s *hub.Session) {
			v, err := s.OpenStore(ctx, "words")
			if err != nil {
				c.fault("the devil has no view: %v", err)
				return
			}
			f(ctx, c, v)
		})
	}
}

func storePlaces() []place {
	const validator, watch, writer = "devil: handler validator of store judged", "devil: handler watch job of store words", "devil: goroutine writer"
	return []place{
		{name: "validator", start: judgeJob(runHook), provoke: writeJob("judged"), leak: validator, early: true},
		{
			name: "validator of a write of its owner", start: func(c *cell, s *hub.Session) {
				judgeJob(runHook)(c, s)
				v, err := s.OpenStore(context.Background(), "judged")
				if err != nil {
					c.fault("the devil has no view: %v", err)
					return
				}
				handleWrite(c, s, v)
			}, provoke: sendJob, leak: "devil: handler job", early: true, charge: 2, // The handler fails with it.
		},
		{name: "text of the error of a validator", start: judgeJob(failText), provoke: writeJob("judged"), leak: validator, early: true, lacks: bare("the text of an error"), text: unreadable},
		{name: "text of what a validator panics with", start: judgeJob(panicText), provoke: writeJob("judged"), leak: validator, early: true, lacks: bare("the text of a panic"), text: unreadable},
		{name: "watcher", start: watchJob(runHook), provoke: writeJob("words"), leak: watch},
		{name: "watcher with a time-out", start: watchJob(runHook, store.Timeout(ownTime)), provoke: writeJob("words"), leak: watch, early: true},
		{name: "watcher of the latest", start: watchJob(runHook, store.Latest(), store.Snapshot()), provoke: writeJob("words"), leak: watch},
		{name: "text of the error of a watcher", start: watchJob(failText), provoke: writeJob("words"), leak: watch, lacks: bare("the text of an error"), text: unreadable},
		{name: "text of what a watcher panics with", start: watchJob(panicText), provoke: writeJob("words"), leak: watch, lacks: bare("the text of a panic"), text: unreadable},
		{
			name: "transaction", leak: writer, lacks: less(aborted("a transaction"), aPayload),
			provoke: inStore(func(ctx context.Context, c *cell, v *store.View) {
				_ = v.Txn(ctx, func(tx *store.Tx) error {
					if err := tx.Set("job", []byte("good")); err != nil {
						return err
					}
					_, err := tx.Get("tick")
					if err == nil {
						err = c.run(hook{ctx: ctx, data: []byte("good")})
					}
					return err
				}, store.Attempts(1))
			}),
		},
		{
			name: "modification of a typed store", leak: writer, lacks: bare("a modification"),
			provoke: inStore(func(ctx context.Context, c *cell, v *store.View) {
				_, _ = store.Typed[int](v).Modify(ctx, "n", func(old int) (int, error) { return old + 1, c.run(hook{}) })
			}),
		},
		{
			name: "encoder of a typed store", leak: writer, lacks: bare("an encoder"),
			provoke: inStore(func(ctx context.Context, c *cell, v *store.View) {
				_, _ = store.TypedBy[int](v, codecOf(c)).Set(ctx, "n", 1)
			}),
		},
		{
			name: "decoder of a typed store", leak: writer, lacks: less(bare("a decoder"), aPayload),
			provoke: inStore(func(ctx context.Context, c *cell, v *store.View) {
				_, _, _ = store.TypedBy[string](v, codecOf(c)).Get(ctx, "tick")
			}),
		},
		{
			name: "loop over the entries of a store", leak: writer, lacks: less(aborted("a loop"), aPayload),
			provoke: inStore(func(ctx context.Context, c *cell, v *store.View) {
				for e, err := range v.Entries(ctx, store.All()) {
					if err == nil {
						_ = c.run(hook{ctx: ctx, data: e.Value()})
					}
				}
			}),
		},
	}
}

// An evilBackend keeps persistent stores, and one of its methods is code.
type evilBackend struct {
	*storetest.Memory
	c  *cell
	at string
}

func (b evilBackend) do(method string, k hook) error {
	if b.at != method {
		return nil
	}
	return b.c.run(k)
}

func (b evilBackend) Commit(ops []store.Op) error {
	if err := b.do("Commit", hook{}); err != nil {
		return err
	}
	return b.Memory.Commit(ops)
}

func (b evilBackend) Backup(ctx context.Context, w io.Writer) (int64, error) {
	if err := b.do("Backup", hook{ctx: ctx}); err != nil {
		return 0, err
	}
	return b.Memory.Backup(ctx, w)
}

func (b evilBackend) Compact(ctx context.Context) error {
	if err := b.do("Compact", hook{ctx: ctx}); err != nil {
		return err
	}
	return b.Memory.Compact(ctx)
}

// An evilWriter gets a backup, and is code.
type evilWriter struct{ c *cell }

func (w evilWriter) Write(p []byte) (int, error) { return len(p), w.c.run(hook{}) }

func backendPlaces() []place {
	at := func(method string) func(c *cell, o *hub.Options) {
		return func(c *cell, o *hub.Options) { o.Store.Backend = evilBackend{&storetest.Memory{}, c, method} }
	}
	lasting := func(c *cell) {
		set(c.t, create(c.t, c.peer, "lasting", store.Config{Persistent: true}), "k", "v")
	}
	const own = "the host calls its own code"
	return []place{
		{
			name: "Commit of a backend", host: true, lacks: bare("a backend's Commit"), options: at("Commit"), before: lasting, provoke: writeJob("lasting"),
			says: "backend", unnamed: "it has its own kind of error", once: true,
		},
		{
			name: "Backup of a backend", host: true, lacks: less(bare("a backend's Backup"), aContext), options: at("Backup"), before: lasting, stack: own, unnamed: own, own: true,
			provoke: func(c *cell, ctx context.Context) error { _, err := c.h.BackupStores(ctx, io.Discard); return err },
		},
		{
			name: "Compact of a backend", host: true, lacks: less(bare("a backend's Compact"), aContext), options: at("Compact"), before: lasting, stack: own, unnamed: own, own: true,
			provoke: func(c *cell, ctx context.Context) error { return c.h.CompactStores(ctx) },
		},
		{
			name: "writer of a backup", host: true, lacks: bare("a writer"), options: at(""), before: lasting, stack: own, unnamed: own, own: true,
			provoke: func(c *cell, ctx context.Context) error { _, err := c.h.BackupStores(ctx, evilWriter{c}); return err },
		},
	}
}
