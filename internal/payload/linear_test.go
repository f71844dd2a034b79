package payload_test

import (
	"strings"
	"testing"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/internal/payload"
)

// TestS18ScanIsLinear shows that text made to be dear is scanned in linear time
// (S18): a scan that looked at 8 MiB of it once for each of its bytes would not
// end within the time that a test may take. BenchmarkScan has the times.
func TestS18ScanIsLinear(t *testing.T) {
	const size = 8 << 20
	for _, part := range []string{"<", "<a ", "<script ", "<script", "<a on", "<a 'on", `<a x="`, "on", "on=", "javascript", "j a v a ", "\x00j", "= '", " \t\n"} {
		payload.Scan(strings.Repeat(part, size/len(part)), plugbus.CheckAll)
	}
}
