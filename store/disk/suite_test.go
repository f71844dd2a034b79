package disk_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus/store"
	"github.com/plugbus/plugbus/store/disk"
	"github.com/plugbus/plugbus/store/storetest"
)

// TestSuite runs the suite, whose tests are proofs of D1, D2, D3, D5, D6, D7, D11, D12, D13,
// D14, D15, D16 and D18; each says of which.
func TestSuite(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T) storetest.Place {
		open := func(dir string) store.Options {
			e, err := disk.Open(dir, disk.Options{})
			require.NoError(t, err)
			return store.Options{Backend: e}
		}
		dir := t.TempDir()
		return storetest.Place{
			Open: func() store.Options { return open(dir) },
			Restore: func(backup []byte) store.Options {
				to := t.TempDir()
				require.NoError(t, os.WriteFile(filepath.Join(to, disk.BackupName), backup, 0o600))
				return open(to)
			},
		}
	})
}
