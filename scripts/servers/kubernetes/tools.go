//go:build tools

package main

// Built by itself, from the versions of this module.
import _ "github.com/rancher/local-path-provisioner"
