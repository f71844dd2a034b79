package hubtest_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/hub/hubtest"
	"github.com/plugbus/plugbus/security"
	"github.com/stretchr/testify/require"
)

func shopMatrix(tb testing.TB, policy string) *hubtest.Matrix {
	return hubtest.NewMatrix(hubtest.Policy(tb, policy)).
		Add(plugbus.VerbEmit, "orders.placed", "orders.internal.fraud", "invoices.created").
		Add(plugbus.VerbSubscribe, "orders.placed", "orders.*", "orders.**")
}

// What the matrix says of patterns is what a session gets, as its names are what
// Explain says.
func TestMatrix(t *testing.T) {
	shopMatrix(t, shopPolicy).Golden(t, "testdata/shop.golden")

	odd := hubtest.NewMatrix(security.AllowAll(), "anybody", "not an id").
		Add(plugbus.VerbEmit, "orders.placed", "plugin:registered", "no name", "").
		Add(plugbus.VerbSubscribe, "**", "* *").
		Add(plugbus.VerbSend, "mailer").
		Add(0, "x")
	odd.Golden(t, "testdata/odd.golden")

	hubtest.NewMatrix(hubtest.Policy(t, `{ "version": 1, "plugins": {
		"owner":  { "dataAccess": { "stock": { "read": true, "write": true, "create": true }, "stock.*": { "read": true, "write": true } } },
		"reader": { "trust": "basic", "dataAccess": { "stock": { "read": true, "requiresTrust": true }, "**": { "read": true } } } } }`)).
		Add(plugbus.VerbRead, "stock", "stock.*", "prices", "**").
		Add(plugbus.VerbWrite, "stock", "stock.*", "stock.old").
		Add(plugbus.VerbCreate, "stock", "stock.old", "store:own").
		Golden(t, "testdata/stores.golden")

	empty := hubtest.NewMatrix(nil).Add(plugbus.VerbEmit, "orders.placed")
	require.Equal(t, "verb  object\nemit  orders.placed\n", empty.String())
}

// A policy that changed fails the test cell by cell, with the rule.
func TestGoldenFails(t *testing.T) {
	changed := strings.NewReplacer(`"deny": ["orders.internal.*"]`, `"deny": []`, `"mailer":`, `"postman":`).Replace(shopPolicy)
	f := try(t, func(tb testing.TB) { shopMatrix(t, changed).Golden(tb, "testdata/shop.golden") })
	f.requireFailure(t,
		"the permissions differ from testdata/shop.golden",
		"- shop: emit orders.internal.fraud: got yes, want denied_by_rule; the rule: \"orders.**\" in plugins.shop.emit.allow[0]",
		`- the plugin "postman" is new`, `- the plugin "mailer" is gone`,
		"PLUGBUS_UPDATE=1", "verb       object                 invoices",
	)
	require.NotContains(t, f.failures[0], "- invoices:", "its cells are the same, though wider")

	f = try(t, func(tb testing.TB) {
		hubtest.NewMatrix(hubtest.Policy(t, shopPolicy)).Add(plugbus.VerbEmit, "orders.placed").Golden(tb, "testdata/shop.golden")
	})
	f.requireFailure(t, `- the row "subscribe orders.*" is gone`)

	f = try(t, func(tb testing.TB) { shopMatrix(t, shopPolicy).Golden(tb, "testdata/missing.golden") })
	f.requireFailure(t, "there is no testdata/missing.golden", "PLUGBUS_UPDATE=1", "verb       object")

	f = try(t, func(tb testing.TB) { shopMatrix(t, shopPolicy).Golden(tb, "testdata") })
	f.requireFailure(t, "read the golden file")
}

// A file that differs only in its line ends is the same, one that differs only
// in its layout is not.
func TestGoldenText(t *testing.T) {
	path := filepath.Join(t.TempDir(), "permissions.golden")
	matrix := shopMatrix(t, shopPolicy)
	require.NoError(t, os.WriteFile(path, []byte(strings.ReplaceAll(matrix.String(), "\n", "\r\n")), 0o600))
	matrix.Golden(t, path)

	require.NoError(t, os.WriteFile(path, []byte("\n"+matrix.String()), 0o600))
	f := try(t, func(tb testing.TB) { matrix.Golden(tb, path) })
	f.requireFailure(t, "permissions differ")

	require.NoError(t, os.WriteFile(path, []byte(strings.ReplaceAll(matrix.String(), "  ", "   ")), 0o600))
	f = try(t, func(tb testing.TB) { matrix.Golden(tb, path) })
	f.requireFailure(t, "only in the order, or in the layout")
}

// PLUGBUS_UPDATE=1 writes the file, and the folder that it is in.
func TestGoldenUpdate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "testdata", "permissions.golden")
	matrix := shopMatrix(t, shopPolicy)
	t.Setenv("PLUGBUS_UPDATE", "1")
	f := try(t, func(tb testing.TB) { matrix.Golden(tb, path) })
	f.requirePass(t, "wrote "+path)
	t.Setenv("PLUGBUS_UPDATE", "")
	matrix.Golden(t, path)

	t.Setenv("PLUGBUS_UPDATE", "1")
	f = try(t, func(tb testing.TB) { matrix.Golden(tb, filepath.Dir(path)) })
	f.requireFailure(t, "write the golden file")
}
