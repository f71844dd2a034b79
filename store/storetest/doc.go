// Package storetest tests backends of package store, and helps to test with them.
//
// [Run] runs the contract of package store against a backend: what stores promise must
// hold in memory and on every backend alike, also after it was opened again.
//
//	func TestContract(t *testing.T) {
//		storetest.Run(t, func(t *testing.T) storetest.Place {
//			dir := t.TempDir()
//			return storetest.Place{
//				Open:    func() store.Options { return store.Options{Backend: open(t, dir)} },
//				Restore: func(backup []byte) store.Options { return store.Options{Backend: restored(t, backup)} },
//			}
//		})
//	}
//
// Each test runs in a bubble of [testing/synctest], so that its time is exact, and none
// of its goroutines may be left; so a backend waits for its own in Close.
//
// [Memory] is a backend for the tests of others.
package storetest
