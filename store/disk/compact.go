package disk

import (
	"context"
	"errors"
	"fmt"

	"go.etcd.io/bbolt"
)

// Compact writes the database file anew, without the room that deleted pairs have left.
// Commits go on meanwhile. If it fails or ctx ends, the old file stays in use; a crash
// leaves the old or the new one. After Close the error matches plugbus.ErrClosed.
func (e *Engine) Compact(ctx context.Context) error {
	if err := e.compact(ctx); err != nil {
		return fmt.Errorf("disk: compact %q: %w", e.dir, err)
	}
	return nil
}

func (e *Engine) compact(ctx context.Context) error {
	if err := e.take(ctx); err != nil {
		return err
	}
	defer e.give()
	if err := e.checkpoint(); err != nil {
		return err
	}
	temp := e.tree.path + tempSuffix
	err := e.tree.copyTo(ctx, temp)
	if err == nil {
		err = step(e.fault, "compacted")
	}
	if err == nil {
		_, err = inspect(temp)
	}
	if err != nil {
		return errors.Join(err, remove(temp))
	}
	return e.swap(temp)
}

// swap puts the database file temp in the place of the one in use. The caller has the
// turn.
func (e *Engine) swap(temp string) error {
	renamed, err := false, e.tree.close() // Windows replaces no file that is open.
	if err == nil {
		renamed, err = replace(temp, e.tree.path, e.fault)
	}
	t, failed := openTree(e.tree.path, e.tree.head)
	e.mu.Lock()
	defer e.mu.Unlock()
	if failed == nil {
		e.tree = t
	}
	if failed != nil || renamed && err != nil {
		// A checkpoint into a file whose name a crash may take away would be lost.
		e.treeErr = fmt.Errorf("compaction: %w", errors.Join(err, failed))
		e.fail(e.treeErr)
		return e.treeErr
	}
	if err != nil {
		return errors.Join(err, remove(temp))
	}
	e.stats.Compactions++
	e.measure()
	return nil
}

// copyTo writes all pairs of the tree to a new file at path.
func (t *tree) copyTo(ctx context.Context, path string) error {
	if err := remove(path); err != nil {
		return err
	}
	to := &tree{path: path}
	if err := to.open(bbolt.Options{NoSync: true}); err != nil {
		return err
	}
	err := t.view(func(tx *bbolt.Tx) error {
		return tx.ForEach(func(name []byte, from *bbolt.Bucket) error {
			c := from.Cursor()
			for key, value := c.First(); key != nil; {
				err := to.db.Update(func(tx *bbolt.Tx) error {
					b, err := tx.CreateBucketIfNotExists(name)
					if err != nil {
						return err
					}
					b.FillPercent = 0.9 // The keys come in their order.
					for size := 0; key != nil && size < compactBatch; key, value = c.Next() {
						if err := errors.Join(context.Cause(ctx), b.Put(key, value)); err != nil {
							return err
						}
						size += len(key) + len(value)
					}
					return nil
				})
				if err != nil {
					return err
				}
			}
			return nil
		})
	})
	if err == nil {
		err = to.guarded(to.db.Sync)
	}
	to.broken = t.broken // Whichever of them bbolt has panicked about.
	return errors.Join(err, to.close())
}

// compactBatch is how many bytes of pairs a transaction of a compaction copies.
const compactBatch = 8 << 20
