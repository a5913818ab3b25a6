output "bus_arn" {
  description = "Where forward-events delivers, and where outcome events appear."
  value       = aws_cloudwatch_event_bus.podgrant.arn
}

output "queue_urls" {
  description = "The functions' queues, by function."
  value       = { for function, queue in aws_sqs_queue.podgrant : function => queue.url }
}

output "dead_letters_urls" {
  description = "The functions' dead-letter queues, by function."
  value       = { for function, queue in aws_sqs_queue.dead_letters : function => queue.url }
}

output "function_names" {
  description = "The functions as Lambda calls them, by function."
  value       = { for function, lambda in aws_lambda_function.podgrant : function => lambda.function_name }
}
