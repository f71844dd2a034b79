package plugbus_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
)

func TestSharedIsTheValueItself(t *testing.T) {
	t.Parallel()
	value := new(int)
	require.Same(t, value, plugbus.Shared(value).Value())
}

func TestPermitAllowed(t *testing.T) {
	t.Parallel()
	require.True(t, (&plugbus.Permit{}).Allowed())
	require.False(t, (&plugbus.Permit{Reason: plugbus.ReasonDeniedByRule}).Allowed())
}

// TestContentChecksAreApart shows that each check can be chosen alone.
func TestContentChecksAreApart(t *testing.T) {
	t.Parallel()
	var all plugbus.ContentChecks
	for _, check := range []plugbus.ContentChecks{
		plugbus.CheckScript, plugbus.CheckScheme, plugbus.CheckAttribute,
	} {
		require.NotZero(t, check)
		require.Zero(t, all&check)
		all |= check
	}
	require.Equal(t, plugbus.CheckAll, all)
}

// TestReasonsAndCodesAreWords reads the constants from the source, so that a
// new one is held to the rule: a word of lower case that no other one has.
func TestReasonsAndCodesAreWords(t *testing.T) {
	t.Parallel()
	file, err := parser.ParseFile(token.NewFileSet(), "reason.go", nil, 0)
	require.NoError(t, err)
	seen := make(map[string]string)
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		literal, ok := spec.Values[0].(*ast.BasicLit)
		require.True(t, ok, "%s is not a literal", spec.Names[0])
		word, err := strconv.Unquote(literal.Value)
		require.NoError(t, err)
		kind := spec.Type.(*ast.Ident).Name
		require.Regexp(t, `^[a-z]+(_[a-z]+)*$`, word)
		require.NotContains(t, seen, kind+" "+word, "%s and another have one word", spec.Names[0])
		seen[kind+" "+word] = spec.Names[0].Name
		return true
	})
	require.Contains(t, seen, "Reason rate_limit_exceeded")
	require.Contains(t, seen, "Code internal")
}
