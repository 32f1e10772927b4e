// Package getter takes the place of what chains download the programs of upgrades with. Chains for
// tests are not upgraded, and the real one brings the SDKs of two clouds.
package getter

import (
	"context"
	"errors"
	"net/http"
)

var errNothing = errors.New("a chain for tests downloads nothing")

// Getters are all ways to download.
var Getters = map[string]Getter{}

// Getter is one way to download.
type Getter any

// HttpGetter is the one by HTTP.
type HttpGetter struct {
	Client                *http.Client
	XTerraformGetDisabled bool
}

// Client downloads something.
type Client struct {
	Ctx             context.Context
	DisableSymlinks bool
	Src, Dst, Pwd   string
	Getters         map[string]Getter
}

// Get downloads nothing.
func (*Client) Get() error { return errNothing }

// Get downloads nothing.
func Get(_, _ string) error { return errNothing }

// GetFile downloads nothing.
func GetFile(_, _ string) error { return errNothing }

// ChecksumError is never met.
type ChecksumError struct{}

func (*ChecksumError) Error() string { return errNothing.Error() }
