package typed

import (
	"encoding/json"
	"fmt"
	"reflect"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/internal/strictjson"
)

// As returns data as a T: data itself if it is a T, or what the JSON in it
// decodes to. The error is a [*plugbus.TypeError], where what says whose payload
// it is. A T that is an interface takes whatever implements it.
func As[T any](what string, data any) (T, error) {
	if same, ok := data.(T); ok {
		return same, nil
	}
	var value T
	if data == nil && reflect.TypeFor[T]().Kind() == reflect.Interface {
		return value, nil // The nil of an interface is one, which the assertion denies.
	}
	var err error
	switch text := data.(type) {
	case json.RawMessage:
		err = strictjson.Decode(text, &value)
	case []byte:
		err = strictjson.Decode(text, &value)
	default:
		return value, mismatch[T](what, data, nil)
	}
	if err != nil {
		var none T // A decoder that fails may have filled in a half.
		return none, mismatch[T](what, data, err)
	}
	return value, nil
}

func mismatch[T any](what string, data any, err error) error {
	return &plugbus.TypeError{
		What: what, Got: fmt.Sprintf("%T", data), Want: reflect.TypeFor[T]().String(), Err: err,
	}
}
