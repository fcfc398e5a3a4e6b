// Package awsreader reads for a trace what AWS IoT, IAM and Greengrass know, by the stock SDK
// clients. They are slow to build: only cmd and tests import it.
package awsreader
