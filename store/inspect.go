package store

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/internal/payload"
)

// inspect looks at the strings in a value as far as it is JSON, one document or several.
// The door has looked at the value as a text, which shows all but what is escaped.
func inspect(value string, checks plugbus.ContentChecks) error {
	if checks == 0 || strings.IndexByte(value, '\\') < 0 {
		return nil
	}
	d := json.NewDecoder(strings.NewReader(value))
	d.UseNumber()
	for {
		token, err := d.Token()
		if err != nil {
			return nil //nolint:nilerr // It is the end, or what follows is no JSON.
		}
		if text, ok := token.(string); ok {
			if found := payload.Scan(text, checks); found != 0 {
				return fmt.Errorf("a string in the JSON of the value fails the content check %v", found)
			}
		}
	}
}
