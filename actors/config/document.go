package config

import (
	"bytes"

	"go.yaml.in/yaml/v3"

	"github.com/gatehouse-edge/gatehouse/actors/policy"
)

// DocumentBytesMax bounds what a hostile or broken file can cost before it is refused: a
// file with the largest policy (512 KiB) and room beside it.
const DocumentBytesMax = 1 << 20

var utf8BOM = []byte("\xef\xbb\xbf")

// readDocument reads doc as policies are read, so that device groups can move between the
// files. An empty document is an empty mapping.
func readDocument(doc []byte) (*yaml.Node, error) {
	doc = bytes.TrimPrefix(doc, utf8BOM) // editors on Windows write one; it means nothing in UTF-8
	node, err := policy.ReadDocument(doc, DocumentBytesMax, "move the device groups to a file of their own (policyFile)")
	if err == nil && node.Kind == yaml.DocumentNode {
		node.Kind, node.Tag = yaml.MappingNode, "!!map"
	}
	return node, err
}
