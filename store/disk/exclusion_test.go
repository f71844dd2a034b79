// This test locks and refuses by the thousands, which the exported door does with files.
package disk

import (
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestRefusalLeavesNoSecondLock has many lock a directory and refuse it, which removes the
// lock file from under those that are about to lock it. At no time two have the lock.
func TestRefusalLeavesNoSecondLock(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var holders, locked atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 1000 {
				l, err := lockDir(dir)
				if err != nil {
					continue
				}
				if n := holders.Add(1); n != 1 {
					t.Errorf("%d have the lock", n)
				}
				locked.Add(1)
				holders.Add(-1)
				if err := l.refuse(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	require.NotZero(t, locked.Load())
	require.NoFileExists(t, dir+"/"+lockName)
}
