package disk

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/internal/limits"
	"github.com/plugbus/plugbus/store"
)

// Options configure an [Engine]. The zero value is ready to use.
type Options struct {
	// LogBytes is how long the log may grow before it is worked into the database
	// file, 4096 to 2³⁰ bytes. If zero, it is 16 MiB. Where the database file is larger,
	// so may be the log, up to 16 times LogBytes: then the work stays in proportion.
	LogBytes int64

	// fault is called before each step that a test wants to fail, or to be the last.
	fault func(step string) error
}

// growthFactor is how many times LogBytes the log may have for a large database file.
const growthFactor = 16

// stallFactor is how many times as long as it may grow a log becomes, while a
// checkpoint or a backup goes on, before commits wait.
const stallFactor = 4

// An Engine keeps a directory. Its methods may be called by several goroutines at a
// time, though commits by one. It is a [store.Backend].
type Engine struct {
	dir  string
	lock *dirLock

	// turn holds a value while somebody works with the tree, or replaces its file.
	turn chan struct{}
	tree *tree // changed with mu held, too

	fault func(step string) error // of Options

	work      sync.WaitGroup // checkpoints in the background
	closeOnce sync.Once
	closeErr  error

	mu            sync.Mutex // guards all below
	log           *logFile
	pending       changes   // what the log holds and the tree does not
	checkpointing bool      // in the background
	checkpointed  sync.Cond // tells that checkpointing, closed or err has changed
	limit         int64     // length of the log at which a checkpoint begins
	logBytes      int64     // of Options
	closed        bool
	err           error // why nothing more is committed
	treeErr       error // why the tree is not used any more
	stats         Stats
}

// Open opens the directory dir, which it makes if it is missing. Nobody else can open
// it until the engine is closed, or the process ends.
//
// The error matches [ErrLocked] if it is open already, [plugbus.ErrInvalid] if it is no
// directory or an option is out of its range, and is a [*FileError], which matches
// [ErrDamaged], [ErrForeign] or [ErrNewer], if a file in it is not what it should be. Then
// nothing in the directory was changed.
func Open(dir string, o Options) (*Engine, error) {
	wrong := limits.List{Fault: func(option string, got any, want string) error {
		return fmt.Errorf("disk: option %s is %v, want %s: %w", option, got, want, plugbus.ErrInvalid)
	}}
	o.LogBytes = limits.Within(&wrong, "LogBytes", o.LogBytes, 16<<20, 4096, 1<<30)
	if err := wrong.Err(); err != nil {
		return nil, err
	}
	if dir == "" {
		return nil, fmt.Errorf(`disk: open "": %w: expected the path of a directory, such as "."`, plugbus.ErrInvalid)
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("disk: open %q: %w", dir, err)
	}
	if err := makeDir(dir); err != nil {
		return nil, fmt.Errorf("disk: open %q: %w", dir, err)
	}
	lock, err := lockDir(dir)
	if err != nil {
		return nil, err
	}
	e, err := openFiles(dir, o)
	if err != nil {
		if _, ok := errors.AsType[*FileError](err); !ok {
			err = fmt.Errorf("disk: open %q: %w", dir, err)
		}
		return nil, errors.Join(err, lock.refuse())
	}
	e.lock = lock
	if err := lock.announce(); err != nil {
		return nil, errors.Join(fmt.Errorf("disk: open %q: %w", dir, err), e.Close())
	}
	return e, nil
}

// Load calls visit with every pair, in the order of the buckets and keys. The value is
// valid until visit returns; visit must not call the engine.
func (e *Engine) Load(visit func(bucket, key string, value []byte) error) error {
	if err := e.take(context.Background()); err != nil {
		return fmt.Errorf("disk: load %q: %w", e.dir, err)
	}
	defer e.give()
	e.mu.Lock()
	defer e.mu.Unlock()
	err := e.treeErr
	if err == nil {
		err = e.tree.load(e.pending, visit)
	}
	if err != nil {
		return fmt.Errorf("disk: load %q: %w", e.dir, err)
	}
	return nil
}

// Commit makes all of ops durable, or none. It keeps nothing of them. The error matches
// [store.ErrNotDone] if it is certain that none will be seen. After an error of the
// disk all further commits fail with that error; they match ErrNotDone too. After Close
// the error matches [plugbus.ErrClosed]; it matches [plugbus.ErrInvalid] if an op is not
// as [store.Op] demands, or all together have more than 1 GiB.
//
// Commit waits for the disk; besides, it waits only while a checkpoint, a backup or a
// compaction goes on and the log has grown to four times of what it may.
func (e *Engine) Commit(ops []store.Op) error {
	if len(ops) == 0 {
		return nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.isFull() {
		e.stats.Stalls++
	}
	for e.isFull() {
		e.checkpointed.Wait()
	}
	switch {
	case e.closed:
		return fmt.Errorf("disk: commit to %q: %w: %w", e.dir, store.ErrNotDone, plugbus.ErrClosed)
	case e.err != nil:
		return fmt.Errorf("disk: commit to %q: %w, as one has failed; close it and open it again: %w", e.dir, store.ErrNotDone, e.err)
	}
	record, own, err := encodeRecord(ops, e.log.salt, e.log.last+1)
	if err != nil {
		return fmt.Errorf("disk: commit to %q: %w: %w: %w", e.dir, store.ErrNotDone, plugbus.ErrInvalid, err)
	}
	if err := e.log.append(record); err != nil {
		e.fail(err)
		return fmt.Errorf("disk: commit to %q: %w", e.dir, err)
	}
	for _, op := range own {
		e.pending.add(op)
	}
	e.stats.Commits++
	e.stats.Ops += uint64(len(ops))
	if e.log.end > e.limit && !e.checkpointing {
		e.checkpointing = true
		e.work.Go(e.checkpointBehind) // Close waits for it.
	}
	return nil
}

// isFull reports whether a commit has to wait for a checkpoint. The caller holds mu.
func (e *Engine) isFull() bool {
	return e.checkpointing && !e.closed && e.err == nil && e.log.end/stallFactor > e.limit
}

// fail ends all committing. The caller holds mu.
func (e *Engine) fail(err error) {
	if e.err == nil {
		e.err = err
		e.checkpointed.Broadcast()
	}
}

// take waits for the turn to work with the tree.
func (e *Engine) take(ctx context.Context) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	select {
	case e.turn <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		e.give()
		return plugbus.ErrClosed
	}
	return nil
}

func (e *Engine) give() { <-e.turn }

// Close waits for backups and compactions, works the log into the database file, and
// gives the directory free. What was committed stays, whether or not Close returns an
// error. It may be called again, and then returns the same.
func (e *Engine) Close() error {
	e.closeOnce.Do(func() {
		e.mu.Lock()
		e.closed = true
		e.checkpointed.Broadcast()
		e.mu.Unlock()
		e.work.Wait()
		e.turn <- struct{}{}
		defer e.give()

		var errs []error
		if e.err == nil {
			errs = append(errs, e.checkpoint())
		}
		errs = append(errs, e.tree.close(), e.log.close(), e.lock.release())
		if err := errors.Join(errs...); err != nil {
			e.closeErr = fmt.Errorf("disk: close %q: %w", e.dir, err)
		}
	})
	return e.closeErr
}
