package security_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/security"
)

// TestJSON shows that alerts and usage are written with words and not numbers.
func TestJSON(t *testing.T) {
	data, err := json.Marshal(security.Alert{Kind: security.ManyRefusals, Severity: security.High, Plugin: "p"})
	require.NoError(t, err)
	require.Contains(t, string(data), `"kind":"many_refusals","severity":"high","plugin":"p"`)
	data, err = json.Marshal(security.OperationUsage{Operation: security.DataAccess})
	require.NoError(t, err)
	require.Contains(t, string(data), `{"operation":"data_access","rate":{`)
	require.Equal(t, "Severity(9)", security.Severity(9).String())
	require.Equal(t, "Operation(9)", security.Operation(9).String())
	require.Equal(t, "Priority(9)", plugbus.Priority(9).String())
}
