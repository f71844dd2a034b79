package disk

import (
	"context"
	"fmt"
	"io"

	"go.etcd.io/bbolt"

	"github.com/plugbus/plugbus/internal/panics"
)

// Backup writes a copy of all that was committed before it was called, and perhaps of
// some of what is committed meanwhile, as of one moment. The copy is a file that [Open]
// takes up if it has the name [BackupName] in a directory without others of ours.
//
// Commits go on meanwhile; what they write stays in the log until the backup is done,
// so give ctx a deadline if w may be slow. Backup ends with the error of ctx at the
// next write after ctx has ended, and with that of w if it has one. After Close the
// error matches plugbus.ErrClosed.
func (e *Engine) Backup(ctx context.Context, w io.Writer) (int64, error) {
	n, err := e.backup(ctx, w)
	if err != nil {
		return n, fmt.Errorf("disk: back up %q, %d bytes written: %w", e.dir, n, err)
	}
	return n, nil
}

func (e *Engine) backup(ctx context.Context, w io.Writer) (int64, error) {
	if err := e.take(ctx); err != nil {
		return 0, err
	}
	defer e.give()
	if err := e.checkpoint(); err != nil {
		return 0, err
	}
	var n int64
	err := e.tree.view(func(tx *bbolt.Tx) error {
		var failed error // bbolt does not wrap it.
		_, err := tx.WriteTo(writerFunc(func(b []byte) (int, error) {
			var written int
			if failed = context.Cause(ctx); failed == nil {
				written, failed = write(w, b)
				n += int64(written)
			}
			return written, failed
		}))
		if failed != nil {
			return failed
		}
		return err
	})
	if err == nil {
		e.mu.Lock()
		e.stats.Backups++
		e.mu.Unlock()
	}
	return n, err
}

// write writes b to w. A panic of w is an error: the tree takes one for its own.
func write(w io.Writer, b []byte) (n int, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("the writer panicked: %s", panics.Text(cause))
		}
	}()
	return w.Write(b)
}

// A writerFunc is an io.Writer.
type writerFunc func(b []byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }
