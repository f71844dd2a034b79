package storetest_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/plugbus/plugbus/store"
	"github.com/plugbus/plugbus/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestWithoutBackend(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(*testing.T) storetest.Place {
		return storetest.Place{Open: func() store.Options { return store.Options{} }}
	})
}

// TestMemory runs the suite, whose tests are proofs of D1, D2, D3, D5, D6, D7, D11, D13, D14,
// D15, D16 and D18; each says of which.
func TestMemory(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T) storetest.Place {
		m := &storetest.Memory{}
		return storetest.Place{
			Open: func() store.Options { return store.Options{Backend: m} },
			Restore: func(backup []byte) store.Options {
				restored, err := storetest.Restore(backup)
				require.NoError(t, err)
				return store.Options{Backend: restored}
			},
		}
	})
}
